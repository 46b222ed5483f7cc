"""How each kind of file is signed and read: one entry a route."""

from assaymark.provenance.formats import Route
from assaymark.provenance.job import Reads, Signs
from assaymark.provenance.plain import read_plain, sign_plain

SIGNS: dict[Route, Signs] = {
    Route.JPEG: sign_plain,
    Route.PNG: sign_plain,
    Route.RIFF: sign_plain,
    Route.BMFF: sign_plain,
    Route.LIBRARY: sign_plain,
}
READS: dict[Route, Reads] = {
    Route.JPEG: read_plain,
    Route.PNG: read_plain,
    Route.RIFF: read_plain,
    Route.BMFF: read_plain,
    Route.LIBRARY: read_plain,
}
