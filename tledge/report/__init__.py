"""The report: what a bundle knows about itself, as one HTML page, a Markdown table or CSV.

Nothing is measured here: every figure comes from the bundle's own files, or from bench results.
"""

from tledge.report.compare import Compared, compared
from tledge.report.evidence import Evidence, gather
from tledge.report.files import write_csv, write_page
from tledge.report.markdown import markdown
from tledge.report.page import page

__all__ = [
    "Compared",
    "Evidence",
    "compared",
    "gather",
    "markdown",
    "page",
    "write_csv",
    "write_page",
]
