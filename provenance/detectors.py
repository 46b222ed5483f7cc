"""The table of detectors: a name, the media it looks at, and the function that looks.

A detector is a function from an opened file to the pieces of evidence it found. It raises InputError for
what it cannot decode, and says `abstains` where the file lies outside what it was measured on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from assaymark.provenance.evidence import Evidence, Family, Medium
from assaymark.provenance.material import Material

Look = Callable[[Material], Sequence[Evidence]]
EVERYTHING = tuple(Medium)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """place: `module:function` under assaymark.provenance, imported when the detector is first used.

    needs: the option without which it has nothing to look with, and the words of the command line for it.
    """

    name: str
    family: Family
    media: tuple[Medium, ...]
    place: str
    about: str
    needs: tuple[str, str] = ("", "")

    def look(self, material: Material) -> Sequence[Evidence]:
        module, _, function = self.place.partition(":")
        look: Look = getattr(import_module(f"assaymark.provenance.{module}"), function)
        return look(material)


def _row(
    name: str,
    family: Family,
    media: Sequence[Medium],
    place: str,
    about: str,
    needs: tuple[str, str] = ("", ""),
) -> Detector:
    return Detector(
        name=name, family=family, media=tuple(media), place=place, about=about, needs=needs
    )


_IMAGE, _AUDIO, _VIDEO = (Medium.IMAGE,), (Medium.AUDIO,), (Medium.VIDEO,)
_ROWS: tuple[Detector, ...] = (
    _row("credential", Family.CREDENTIAL, EVERYTHING, "credential_evidence:look_credential",
         "what Content Credentials say, once their signature was checked"),
    _row("metadata", Family.METADATA, EVERYTHING, "metadata_evidence:look_metadata",
         "marks of generators and IPTC's source type, parsed in their containers"),
    _row("watermark", Family.WATERMARK, _IMAGE, "watermark_evidence:look_watermark",
         "your own watermark", ("watermark_key", "--watermark-key")),
    _row("stable-diffusion-mark", Family.WATERMARK, _IMAGE, "dwt_dct:look_stable_diffusion_mark",
         "the open DWT-DCT watermark of Stable Diffusion, SDXL and FLUX"),
    _row("binding", Family.CREDENTIAL, _IMAGE, "watermark_evidence:look_binding",
         "the credential that a copy lost, found again by watermark or fingerprint",
         ("binding_store", "--store")),
    _row("learned", Family.LEARNED, _IMAGE, "image_learned:look_ensemble",
         "the mean of the fitted statistics of pixels, calibrated: the one that counts"),
    _row("spectrum", Family.LEARNED, _IMAGE, "image_learned:look_spectral",
         "azimuthal power spectrum and DCT bands"),
    _row("co-occurrence", Family.LEARNED, _IMAGE, "image_learned:look_cooccurrence",
         "co-occurrences of noise residuals"),
    _row("residual", Family.LEARNED, _IMAGE, "image_learned:look_residual",
         "a small network on noise residuals"),
    _row("splice", Family.FORENSIC, _IMAGE, "splice_localiser:look_splice",
         "regions whose making differs from the rest, from all features of blocks, calibrated"),
    _row("jpeg-history", Family.FORENSIC, _IMAGE, "jpeg_history:look_jpeg_history",
         "JPEG quality, double compression and the grid of an earlier JPEG"),
    _row("jpeg-ghosts", Family.FORENSIC, _IMAGE, "jpeg_ghosts:look_ghosts",
         "regions that were saved at another quality before (Farid 2009)"),
    _row("error-level", Family.FORENSIC, _IMAGE, "error_level:look_error_level",
         "how much each region changes when it is saved again"),
    _row("noise", Family.FORENSIC, _IMAGE, "noise_map:look_noise",
         "the level of noise, region by region"),
    _row("resampling", Family.FORENSIC, _IMAGE, "resampling:look_resampling",
         "traces of scaling and rotation"),
    _row("copy-move", Family.FORENSIC, _IMAGE, "copy_move:look_copy_move",
         "regions that are copies of others"),
    _row("camera-noise", Family.FORENSIC, _IMAGE, "camera_look:look_camera_noise",
         "the noise of one camera's sensor (PRNU)", ("prnu_references", "--references")),
    _row("face-blend", Family.FORENSIC, _IMAGE, "face_blend:look_faces",
         "faces against the ring around them, where OpenCV is installed"),
    _row("speech", Family.LEARNED, (Medium.AUDIO, Medium.VIDEO), "speech:look_speech",
         "synthetic or recorded speech: cepstra and vocoder traits over windows of 4 s, calibrated"),
    _row("vocoder", Family.LEARNED, (Medium.AUDIO, Medium.VIDEO), "speech:look_vocoder",
         "the vocoder traits that weigh most in that"),
    _row("video-frames", Family.LEARNED, _VIDEO, "video_frames:look_video_frames",
         "the statistics of pixels on frames spread over the shots"),
    _row("video-temporal", Family.FORENSIC, _VIDEO, "video_temporal:look_temporal",
         "repeated, missing and held frames, flicker"),
    _row("video-sync", Family.FORENSIC, _VIDEO, "video_sync:look_sync",
         "mouth against voice, lengths of picture and sound, cuts in the sound"),
    _row("published", Family.LEARNED, EVERYTHING, "published_detectors:look_published",
         "published detectors from the user's own files", ("checkpoints", "--checkpoint")),
)  # fmt: skip
DETECTORS: dict[str, Detector] = {row.name: row for row in _ROWS}
