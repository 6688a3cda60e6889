"""
The names of keys in Redis.

All of them begin with the prefix in braces, the hash tag of Redis Cluster: a gateway's keys lie in one slot, so that a
script may touch several of them. See ``docs/redis.md``.
"""

from __future__ import annotations


def key_of(prefix: str, *parts: str) -> str:
    """Return the key ``{prefix}:part:part``, its prefix in braces (redis.io/docs, "Cluster specification")."""
    return ":".join((f"{{{prefix}}}", *parts))
