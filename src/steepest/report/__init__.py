"""The report of a run: figures from plain arrays, and one HTML page that opens offline."""

from .page import ledger_csv as ledger_csv
from .page import paint as paint
from .page import render as render
from .record import Link as Link
from .record import Picture as Picture
from .record import Record as Record
from .record import Sheet as Sheet
