"""Which reader takes which kind of file, by its name in assaymark.provenance.formats."""

from assaymark.provenance.statements import Reads
from assaymark.provenance.statements_exif import read_tiff
from assaymark.provenance.statements_film import read_film, read_jxl, read_matroska
from assaymark.provenance.statements_picture import read_gif, read_jpeg, read_png, read_webp
from assaymark.provenance.statements_sound import read_flac, read_mp3, read_ogg, read_riff

READERS: dict[str, Reads] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "WebP": read_webp,
    **dict.fromkeys(("TIFF", "BigTIFF", "DNG", "NEF", "ARW"), read_tiff),
    **dict.fromkeys(("AVIF", "HEIC", "HEIF", "MP4", "M4V", "M4A", "MOV"), read_film),
    "JXL": read_jxl,
    "Matroska": read_matroska,
    "MP3": read_mp3,
    "FLAC": read_flac,
    "Ogg": read_ogg,
    **dict.fromkeys(("WAV", "AVI"), read_riff),
}
