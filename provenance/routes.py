"""How each kind of file is signed and read: one entry a route."""

from assaymark.provenance.formats import Route
from assaymark.provenance.job import Reads, Signs
from assaymark.provenance.packages import read_package, sign_package
from assaymark.provenance.plain import read_plain, sign_plain
from assaymark.provenance.sidecar import read_sidecar, sign_sidecar, with_sidecar
from assaymark.provenance.texts import read_text, sign_text

SIGNS: dict[Route, Signs] = {
    Route.JPEG: sign_plain,
    Route.PNG: sign_plain,
    Route.RIFF: sign_plain,
    Route.BMFF: sign_plain,
    Route.LIBRARY: sign_plain,
    Route.ZIP: sign_package,
    Route.TEXT: sign_text,
    Route.HTML: sign_text,
    Route.STRUCTURED: sign_text,
    Route.SIDECAR: sign_sidecar,
}
READS: dict[Route, Reads] = {
    Route.JPEG: read_plain,
    Route.PNG: read_plain,
    Route.RIFF: read_plain,
    Route.BMFF: read_plain,
    Route.LIBRARY: with_sidecar(read_plain),
    Route.ZIP: with_sidecar(read_package),
    Route.TEXT: with_sidecar(read_text),
    Route.HTML: with_sidecar(read_text),
    Route.STRUCTURED: with_sidecar(read_text),
    Route.SIDECAR: read_sidecar,
}
