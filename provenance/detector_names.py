"""Names of detectors, without what they compute with: asked before anything runs."""

from assaymark.provenance.detectors import DETECTORS

FUSED = "fused"  # the verdict's own probability


def measurable() -> tuple[str, ...]:
    """Rows of the table that need nothing but the file."""
    return tuple(name for name, row in DETECTORS.items() if not row.needs[0])


def published() -> tuple[str, ...]:
    """Detectors of others, which need a checkpoint."""
    from assaymark.provenance.published_detectors import NAMES

    return NAMES


def ways() -> tuple[str, ...]:
    """Deliveries of pictures and sound, and the two words for several."""
    from assaymark.provenance.deliveries import DELIVERIES
    from assaymark.provenance.sound_deliveries import SOUND_DELIVERIES

    return ("eight", "sweep", *DELIVERIES, *SOUND_DELIVERIES)
