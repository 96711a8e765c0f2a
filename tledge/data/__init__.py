"""Finding, auditing, splitting and decoding images."""
