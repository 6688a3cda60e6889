"""What runs inside Redis: nine Lua scripts, each atomic there, its keys in one hash slot (``keys.key_of``)."""

# KEYS[1] the writer's own marks; ARGV: attempt, last event, expiry of the marks in ms, then the commands, each as
# (count of words, number of the event or 0, words...). The first write uses redis.call: a server that takes no writes
# (out of memory, read-only) refuses there, before anything was applied. Later ones use pcall: one key of a wrong type
# must not block all others for ever.
APPLY = """
local marks = redis.call('HMGET', KEYS[1], 'attempt', 'event')
if tonumber(marks[1] or '0') >= tonumber(ARGV[1]) then return {} end
local done = tonumber(marks[2] or '0')
redis.call('HSET', KEYS[1], 'attempt', ARGV[1], 'event', math.max(done, tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local faults, i = {}, 4
while i <= #ARGV do
  local words, event = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if event == 0 or event > done then
    local answer = redis.pcall(unpack(ARGV, i + 2, i + 1 + words))
    if type(answer) == 'table' and answer.err then
      faults[#faults + 1] = ARGV[i + 2] .. ' ' .. ARGV[i + 3] .. ': ' .. answer.err
    end
  end
  i = i + 2 + words
end
return faults
"""

# KEYS: live set, the call's hash, stream, lease; ARGV: call id, Unix seconds, reaping worker, stream length, retention
# in ms. The record ends with the last sign of life in it.
REAP = """
if redis.call('EXISTS', KEYS[4]) == 1 or redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local ended_at = redis.call('HGET', KEYS[2], 'heartbeat_at') or ARGV[2]
local ended = {'state', 'ended', 'end_reason', 'worker_died', 'end_detail', 'its worker died', 'ended_by', 'gateway',
  'ended_at', ended_at}
redis.call('HSET', KEYS[2], 'call_id', ARGV[1], unpack(ended))
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'call_id', ARGV[1], 'event', 'orphaned', 'at', ARGV[2],
  'worker', ARGV[3], unpack(ended))
return 1
"""

# KEYS[1] the call's mark, then for each scope (the route, its caller, all calls) a live set and a day's hash. ARGV:
# call id, expiry of a live place in ms, of the mark in ms, of a day in ms, micro-dollars to book where money is
# limited, then for each scope the most calls at once, and calls, milliseconds and micro-dollars in a day; '' is no
# limit. Answers {number of the limit that is reached or 0, milliseconds left or -1, micro-dollars booked}. A call that
# has its mark has its place: it is asked about again, or ended meanwhile.
ADMIT = """
local time = redis.call('TIME')
local now, left, money = time[1] * 1000 + math.floor(time[2] / 1000), -1, tonumber(ARGV[5])
local known = redis.call('HGET', KEYS[1], 'micro')
for i = 2, #KEYS, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  local day = redis.call('HMGET', KEYS[i + 1], 'calls', 'ms', 'micro')
  local used = {redis.call('ZCARD', KEYS[i]), tonumber(day[1] or '0'), tonumber(day[2] or '0'), tonumber(day[3] or '0')}
  for each = 1, 4 do
    local number = (i / 2 - 1) * 4 + each
    local limit = tonumber(ARGV[5 + number])
    if limit and used[each] >= limit and not known then return {number, 0, 0} end
    if limit and each == 3 and (left < 0 or limit - used[3] < left) then left = math.max(0, limit - used[3]) end
    if limit and each == 4 then money = math.min(money, limit - used[4]) end
  end
end
if known then return {0, left, tonumber(known)} end
redis.call('HSET', KEYS[1], 'ms', 0, 'micro', money)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for i = 2, #KEYS, 2 do
  redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
  redis.call('HINCRBY', KEYS[i + 1], 'calls', 1)
  if money > 0 then redis.call('HINCRBY', KEYS[i + 1], 'micro', money) end
  redis.call('PEXPIRE', KEYS[i + 1], ARGV[4])
end
return {0, left, money}
"""

# Brings what is counted of calls to their newest state, and books money for those that want more. KEYS: those of ADMIT,
# call after call. ARGV: expiries of a live place, of the mark, of a day, of the mark of an unanswered call (ms), then
# for each call its id, its count of keys, its milliseconds so far, 1 when it ended or 0, micro-dollars spent,
# micro-dollars wanted in all, and for each scope the most micro-dollars in a day or ''. Answers {faults, {for each call
# what it has booked or -1, the number of the scope that has no more or 0}}. The mark remembers what was counted, so a
# repeated or late attempt counts nothing twice; after the end nothing counts. pcall for the same reason as in APPLY.
COUNT = """
local time = redis.call('TIME')
local now, at, i, faults, booked = time[1] * 1000 + math.floor(time[2] / 1000), 0, 5, {}, {}
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then
    faults[#faults + 1] = answer.err
    return {}
  end
  return answer
end
while i <= #ARGV do
  local mark, count, ms, ended = KEYS[at + 1], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3] == '1'
  local spent, wanted, scopes, micro, full = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5]), (count - 1) / 2, -1, 0
  local seen = try('HMGET', mark, 'ms', 'ended', 'micro')
  if #seen == 3 and not seen[2] then
    local counted, before = tonumber(seen[1] or '0'), tonumber(seen[3] or '0')
    if not ended then ms = math.max(ms, counted) end
    micro = ended and spent or math.max(spent, before)
    local more = ended and 0 or math.max(0, wanted - micro)
    for each = 1, scopes do
      local limit = tonumber(ARGV[i + 5 + each])
      local used = limit and more > 0 and try('HMGET', KEYS[at + 1 + 2 * each], 'micro')[1]
      local left = limit and math.max(0, limit - tonumber(used or '0') - (micro - before))
      if limit and left < more then more, full = left, each end
    end
    micro = micro + more
    for each = at + 2, at + count, 2 do
      if ended then
        try('ZREM', KEYS[each], ARGV[i])
      else
        try('ZADD', KEYS[each], now + ARGV[1], ARGV[i])
        try('PEXPIRE', KEYS[each], ARGV[1])
      end
      if not seen[1] then try('HINCRBY', KEYS[each + 1], 'calls', 1) end
      try('HINCRBY', KEYS[each + 1], 'ms', ms - counted)
      if micro ~= before then try('HINCRBY', KEYS[each + 1], 'micro', micro - before) end
      try('PEXPIRE', KEYS[each + 1], ARGV[3])
    end
    try('HSET', mark, 'ms', ms, 'micro', micro)
    if ended then try('HSET', mark, 'ended', 1) end
    try('PEXPIRE', mark, ended and ms == 0 and ARGV[4] or ARGV[2])
  end
  booked[#booked + 1] = micro
  booked[#booked + 1] = full
  at, i = at + count, i + 6 + scopes
end
return {faults, booked}
"""

# KEYS[1] the set that names the hashes of workers. ARGV: expiry in ms, channel, then for each worker the key of its
# hash, a message or '', the count of the words that follow, and these: names and values of the hash.
REGISTER = """
local i = 3
while i <= #ARGV do
  local key, message, words = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  redis.call('HSET', key, unpack(ARGV, i + 3, i + 2 + words))
  redis.call('PEXPIRE', key, ARGV[1])
  redis.call('SADD', KEYS[1], key)
  if message ~= '' then redis.call('PUBLISH', ARGV[2], message) end
  i = i + 3 + words
end
"""

# KEYS[1] the set that names the hashes of workers. Answers them as JSON, a list of flat lists of names and values: one
# text instead of thousands, which a client reads in a tenth of the time. Those that have expired leave the set.
WORKERS = """
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local flat = redis.call('HGETALL', key)
  if #flat > 0 then found[#found + 1] = flat else redis.call('SREM', KEYS[1], key) end
end
return cjson.encode(found)
"""

# Leases of trunks. KEYS: for each trunk its lease (a hash: holder, token, until in ms), the sorted set of who wants it
# (score: until when), its state. Times are those of Redis's own clock.
_LEASES = """
local time = redis.call('TIME')
local now, tokens = time[1] * 1000 + math.floor(time[2] / 1000), {}
local function read(key)
  local lease = redis.call('HMGET', key, 'holder', 'token', 'until')
  local valid = tonumber(lease[3] or '0') > now
  return valid and lease[1] == ARGV[1], not valid, tonumber(lease[2] or '0')
end
local function write(key, token, ms)
  redis.call('HSET', key, 'holder', ARGV[1], 'token', token, 'until', now + ms)
  redis.call('PEXPIRE', key, ARGV[3])
end
"""

# Renews the leases that ARGV[1] has and takes those that are free, at once for all trunks. ARGV: the holder, the length
# of a lease, how long an unused one is remembered, how long a state is kept (all ms), the set that names all states,
# then for each trunk the holder's token (0: none), the count of words of its state, and these. Returns a token for
# each trunk, 0 where it is another's. Tokens grow even if Redis has lost its memory: they begin with the time.
HOLD = (
    _LEASES
    + """
local at = 6
for i = 1, #KEYS, 3 do
  local mine, free, token = read(KEYS[i])
  if free then token = math.max(token + 1, now) end
  tokens[#tokens + 1] = (mine or free) and token or 0
  if mine or free then write(KEYS[i], token, ARGV[2]) end
  redis.call('ZADD', KEYS[i + 1], now + ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', now)
  redis.call('PEXPIRE', KEYS[i + 1], ARGV[2])
  local words = tonumber(ARGV[at + 1])
  if mine and token == tonumber(ARGV[at]) and words > 0 then
    redis.call('DEL', KEYS[i + 2])
    redis.call('HSET', KEYS[i + 2], 'token', token, unpack(ARGV, at + 2, at + 1 + words))
    redis.call('SADD', ARGV[5], KEYS[i + 2])
    redis.call('PEXPIRE', KEYS[i + 2], ARGV[4])
  end
  at = at + 2 + words
end
return tokens
"""
)

# Takes a worker out of those that want leases. ARGV: the holder, the length of a lease, how long an unused one is
# remembered (ms). Where others are left its lease is free at once; where nobody is, and no other has it, it gets a
# lease of its own, and its token is returned.
LEAVE = (
    _LEASES
    + """
for i = 1, #KEYS, 3 do
  local mine, free, token = read(KEYS[i])
  redis.call('ZREM', KEYS[i + 1], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', now)
  local last = redis.call('ZCARD', KEYS[i + 1]) == 0 and (mine or free)
  if last then
    token = math.max(token + 1, now)
    write(KEYS[i], token, ARGV[2])
  elseif mine then
    redis.call('HSET', KEYS[i], 'until', 0)
  end
  tokens[#tokens + 1] = last and token or 0
end
return tokens
"""
)

# Frees the leases that ARGV[1] still has, and takes their states off, which the set ARGV[2] names.
RELEASE = (
    _LEASES
    + """
for i = 1, #KEYS, 3 do
  if read(KEYS[i]) then
    redis.call('HSET', KEYS[i], 'until', 0)
    redis.call('ZREM', KEYS[i + 1], ARGV[1])
    redis.call('DEL', KEYS[i + 2])
    redis.call('SREM', ARGV[2], KEYS[i + 2])
  end
  tokens[#tokens + 1] = 0
end
return tokens
"""
)
