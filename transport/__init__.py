"""SM2, SM3, SM4, key grants, the sealed envelope, the outbox and the broker connection."""
