"""Whom a verifier trusts: anchors for signers, for time stamps and for identities, kept apart."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Trust:
    """PEM texts of certificates; empty means that nobody of this kind is trusted.

    signers: a claim signer's chain may end in these (C2PA 2.2, section 14.4.1).
    time_stamps: a time-stamping authority's chain may end in these (section 14.4.2).
    identities: a CAWG identity's chain may end in these (CAWG identity 1.1, section 8.2).
    """

    signers: str = ""
    time_stamps: str = ""
    identities: str = ""


NOBODY = Trust()
