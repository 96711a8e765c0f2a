"""Where frames come from: images, folders, standard input, video files, network streams and cameras."""

from tledge.runtime.sources.colour import Colour
from tledge.runtime.sources.opening import open_camera, open_source, open_video
from tledge.runtime.sources.shot import Counts, Shot, Source
from tledge.runtime.sources.stream import Stream

__all__ = ["Colour", "Counts", "Shot", "Source", "Stream", "open_camera", "open_source", "open_video"]
