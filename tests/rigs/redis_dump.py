"""Everything that is in a Redis, as text."""

from __future__ import annotations

from collections.abc import Iterator

from redis import Redis


def dump_of(url: str) -> str:
    """Return every key with its value, a line each."""
    with Redis.from_url(url, decode_responses=True) as redis:
        return "\n".join(f"{key}: {_value(redis, key)}" for key in _keys(redis))


def _keys(redis: Redis) -> Iterator[str]:
    yield from sorted(map(str, redis.scan_iter()))


def _value(redis: Redis, key: str) -> object:
    match redis.type(key):
        case "hash":
            return redis.hgetall(key)
        case "stream":
            return redis.xrange(key)
        case "set":
            return redis.smembers(key)
        case "zset":
            return redis.zrange(key, 0, -1, withscores=True)
        case "list":
            return redis.lrange(key, 0, -1)
        case _:
            return redis.get(key)
