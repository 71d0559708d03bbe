"""Every format of training data, as a table: a record in, an Example out."""

from llm_installer.data.formats.columns import TARGETS, parse_columns
from llm_installer.data.formats.detect import detect, find_format
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.records import convert
from llm_installer.data.formats.shape_errors import unknown_shape
from llm_installer.data.formats.table import FORMATS
from llm_installer.data.formats.values import SkipRecord

__all__ = [
    "FORMATS",
    "TARGETS",
    "Format",
    "SkipRecord",
    "convert",
    "detect",
    "find_format",
    "parse_columns",
    "unknown_shape",
]
