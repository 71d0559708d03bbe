"""Every way to write training data down, as a table: a record in, an Example out."""

from llm_installer.data.formats.columns import TARGETS, parse_columns
from llm_installer.data.formats.detect import detect, find_format
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.records import convert, regroup
from llm_installer.data.formats.refusals import unknown_shape
from llm_installer.data.formats.table import FORMATS
from llm_installer.data.formats.values import Unteachable

__all__ = [
    "FORMATS",
    "TARGETS",
    "Format",
    "Unteachable",
    "convert",
    "detect",
    "find_format",
    "parse_columns",
    "regroup",
    "unknown_shape",
]
