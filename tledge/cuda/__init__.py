"""The one place that talks to a GPU: contexts, memory, streams, kernels and graphs, on pycuda."""

from tledge.cuda.gpu import Gpu
from tledge.cuda.graph import Graph, capture
from tledge.cuda.marks import Marks
from tledge.cuda.memory import Buffer, Mapped
from tledge.cuda.module import Kernel, Module
from tledge.cuda.stream import Event, Stream

__all__ = ["Buffer", "Event", "Gpu", "Graph", "Kernel", "Mapped", "Marks", "Module", "Stream", "capture"]
