"""What runs inside Redis: Lua scripts, each atomic there, its keys in one hash slot (``keys.key_of``)."""

# What the scripts about calls share. ARGV begins with: what all keys begin with, the worker that runs the script, the
# expiry of a live call, the retention of a record, the most entries of the stream of all events and of a call's own,
# the retention of CDRs (all times in ms). Only Redis's own clock is compared with what is in Redis.
_CALLS = """
local STEM, WORKER, EXPIRY, RETENTION, EVENTS, OWN_EVENTS, CDRS_KEPT = unpack(ARGV, 1, 7)
local LIVE, INDEXED = STEM .. 'calls:live', {'worker', 'trunk', 'route'}
local TOTALS_KEPT, FORGOTTEN = 400 * 86400000, 600000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function fields_of(words)
  local flat = {}
  for i = 1, #words, 2 do flat[words[i]] = words[i + 1] end
  return flat
end

-- The day of UTC of a time: the proleptic Gregorian calendar, counted in years that begin in March.
local function day_of(ms)
  local days = math.floor(ms / 86400000) + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local skipped = math.floor(of_era / 1460) - math.floor(of_era / 36524) + math.floor(of_era / 146096)
  local year = math.floor((of_era - skipped) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  return string.format('%04d-%02d-%02d', year + era * 400 + (month <= 2 and 1 or 0), month, day)
end

local function whole(number)
  return number and number >= 0 and number < 1e15 and math.floor(number + 0.5) or 0
end

-- Adds an ended call to its day's totals.
local function add_up(flat)
  local day = STEM .. 'totals:' .. day_of(now)
  local answered_at, ended_at = tonumber(flat.answered_at), tonumber(flat.ended_at)
  local figures = {
    calls = 1,
    answered = answered_at and 1 or 0,
    talk_ms = answered_at and ended_at and whole((ended_at - answered_at) * 1000) or 0,
    cost_micro_usd = whole((tonumber(flat.cost_usd) or 0) * 1000000),
  }
  for name, figure in pairs(figures) do
    if figure > 0 then
      redis.call('HINCRBY', day, name, figure)
      if flat.route then redis.call('HINCRBY', day, 'route:' .. flat.route .. ':' .. name, figure) end
    end
  end
  if flat.end_reason then redis.call('HINCRBY', day, 'end_reason:' .. flat.end_reason, 1) end
  redis.call('PEXPIRE', day, TOTALS_KEPT)
end

-- Puts a record in the place of the old one, and the call into the live sets or out of them. With its end comes its
-- CDR, once: the record remembers it, also when a worker that was taken for lost brings the call back. Of a call of
-- which only counts are kept (field `privacy`) there is none, and the record goes but for a mark that it was counted.
local function put(id, kept, words)
  local key, flat = STEM .. 'call:' .. id, fields_of(words)
  local ended = flat.state == 'ended'
  local cdr = redis.call('HGET', key, 'cdr')
  local old = redis.call('HMGET', key, unpack(INDEXED))
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(words))
  for i, by in ipairs(INDEXED) do
    local was, is = old[i], not ended and flat[by]
    if was and was ~= is then redis.call('SREM', LIVE .. ':' .. by .. ':' .. was, id) end
    if is then redis.call('SADD', LIVE .. ':' .. by .. ':' .. is, id) end
  end
  if not ended then
    redis.call('ZADD', LIVE, now + EXPIRY, id)
  else
    redis.call('ZREM', LIVE, id)
    local counted, only_counts = cdr, flat.privacy == 'counts'
    if only_counts then -- what stays for a while says that the call has ended and was counted
      cdr, kept = '-', math.min(kept, FORGOTTEN)
      redis.call('DEL', key)
      redis.call('HSET', key, 'call_id', id, 'state', 'ended', 'privacy', 'counts')
    elseif not cdr then
      cdr = redis.call('XADD', STEM .. 'cdrs', 'MINID', '~', math.max(0, now - CDRS_KEPT), '*', unpack(words))
    end
    if not counted then add_up(flat) end
  end
  if cdr then redis.call('HSET', key, 'cdr', cdr) end
  redis.call('PEXPIRE', key, kept)
end

-- Appends an event to the stream of all calls and to the call's own, which expires with the record.
local function tell(id, words)
  redis.call('XADD', STEM .. 'events', 'MAXLEN', '~', EVENTS, '*', 'call_id', id, 'worker', WORKER, unpack(words))
  local own = STEM .. 'call:' .. id .. ':events'
  redis.call('XADD', own, 'MAXLEN', '~', OWN_EVENTS, '*', unpack(words))
  local left = redis.call('PTTL', STEM .. 'call:' .. id)
  redis.call('PEXPIRE', own, left > 0 and left or RETENTION)
end

-- One command of a wrong key must not block all others for ever.
local faults = {}
local function try(what, ...)
  local done, fault = pcall(...)
  if not done then faults[#faults + 1] = what .. ': ' .. (type(fault) == 'table' and fault.err or tostring(fault)) end
end
"""

# KEYS[1] the writer's own marks; ARGV[8]: attempt, last event, then the commands, each as (count of words, number of
# the event or 0, words...): a command of Redis or one of ours, PUT, RENEW, TELL or FORGET. The first write is not
# tried: a server that takes no writes (out of memory, read-only) refuses there, before anything was applied. Answers
# the faults, the calls to be renewed whose records are not there or not live, and how many calls nobody renews.
APPLY = (
    _CALLS
    + """
local marks = redis.call('HMGET', KEYS[1], 'attempt', 'event')
if tonumber(marks[1] or '0') >= tonumber(ARGV[8]) then return {{}, {}, 0} end
local done = tonumber(marks[2] or '0')
redis.call('HSET', KEYS[1], 'attempt', ARGV[8], 'event', math.max(done, tonumber(ARGV[9])))
redis.call('PEXPIRE', KEYS[1], RETENTION)
local missing, i = {}, 10
local ours = {
  PUT = function(id, kept, ...) put(id, kept, {...}) end,
  TELL = function(id, ...) tell(id, {...}) end,
  FORGET = function()
    for stream, age in pairs({events = RETENTION, cdrs = CDRS_KEPT, audit = CDRS_KEPT}) do
      redis.call('XTRIM', STEM .. stream, 'MINID', math.max(0, now - age))
    end
  end,
  RENEW = function(id, kept, at)
    local key = STEM .. 'call:' .. id
    local state = redis.call('HGET', key, 'state')
    if not state or state == 'ended' then missing[#missing + 1] = id return end
    redis.call('HSET', key, 'heartbeat_at', at)
    redis.call('PEXPIRE', key, kept)
    redis.call('ZADD', LIVE, now + EXPIRY, id)
  end,
}
while i <= #ARGV do
  local words, event, name = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2]
  if event == 0 or event > done then
    local what = name .. ' ' .. ARGV[i + 3]
    if ours[name] then
      try(what, ours[name], unpack(ARGV, i + 3, i + 1 + words))
    else
      try(what, redis.call, unpack(ARGV, i + 2, i + 1 + words))
    end
  end
  i = i + 2 + words
end
local overdue = redis.pcall('ZCOUNT', LIVE, '-inf', now)
return {faults, missing, type(overdue) == 'number' and overdue or 0}
"""
)

# Ends the calls whose workers stopped renewing them, and gives their places in limits back, and the money they booked
# and did not spend. KEYS[1] the live set; ARGV[8]: a worker that is known to be dead, whose calls end at once, or '';
# most calls at a time; then names and values of how they end. A call ends with the last sign of life in its record, on
# its own worker's clock. Answers the faults, and id, worker and direction of each call that ended here.
REAP = (
    _CALLS
    + """
local reaped, ending = {}, {unpack(ARGV, 10)}
local function give_back(id, spent)
  local mark = STEM .. 'limits:call:' .. id
  local places, booked = unpack(redis.call('HMGET', mark, 'places', 'micro'))
  local unspent = math.max(0, (tonumber(booked or '0') or 0) - spent)
  for live, day in string.gmatch(places or '', '(%S+) (%S+)') do
    redis.call('ZREM', live, id)
    if unspent > 0 then redis.call('HINCRBY', day, 'micro', -unspent) end
  end
  if places and unspent > 0 then redis.call('HINCRBY', mark, 'micro', -unspent) end
end
local function reap(id)
  local flat = fields_of(redis.call('HGETALL', STEM .. 'call:' .. id))
  local ended_at = flat.heartbeat_at or string.format('%.3f', now / 1000)
  for name, value in pairs(fields_of(ending)) do flat[name] = value end
  flat.call_id, flat.state, flat.ended_at, flat.heartbeat_at, flat.cdr = id, 'ended', ended_at, nil, nil
  local words = {}
  for name, value in pairs(flat) do
    words[#words + 1] = name
    words[#words + 1] = value
  end
  put(id, RETENTION, words)
  if flat.privacy ~= 'counts' then
    tell(id, {'event', 'orphaned', 'at', ended_at, 'state', 'ended', 'ended_at', ended_at, unpack(ending)})
  end
  reaped[#reaped + 1] = {id, flat.worker or '', flat.direction or ''}
  for _, booked in ipairs({id, id .. ':line'}) do give_back(booked, whole((tonumber(flat.cost_usd) or 0) * 1000000)) end
  for agent = 1, 9 do give_back(id .. ':session:' .. agent, 0) end
end
local of_worker = LIVE .. ':worker:' .. ARGV[8]
local ids = ARGV[8] ~= '' and redis.call('SMEMBERS', of_worker)
  or redis.call('ZRANGEBYSCORE', LIVE, '-inf', now, 'LIMIT', 0, ARGV[9])
for _, id in ipairs(ids) do
  if redis.call('ZREM', LIVE, id) == 1 then
    try(id, reap, id)
  elseif ARGV[8] ~= '' then
    redis.call('SREM', of_worker, id)
  end
end
return {faults, reaped}
"""
)

# KEYS[1] the key of a call but for its id; ARGV: ids. Answers the records as JSON, a list of flat lists of names and
# values: one text instead of thousands, which a client reads in a tenth of the time.
RECORDS = """
local found = {}
for _, id in ipairs(ARGV) do found[#found + 1] = redis.call('HGETALL', KEYS[1] .. id) end
return cjson.encode(found)
"""

# KEYS[1] the stream of CDRs; ARGV: the newest and the oldest id, most entries to look at, most to find, then names and
# values that all fit. Answers the last id looked at, how many were, and those found as JSON: lists of id and flat list.
CDRS = """
local found, last, entries = {}, '', redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local function fits(words)
  for i = 5, #ARGV, 2 do
    local fit = false
    for at = 1, #words, 2 do
      if words[at] == ARGV[i] then fit = words[at + 1] == ARGV[i + 1] break end
    end
    if not fit then return false end
  end
  return true
end
for _, entry in ipairs(entries) do
  last = entry[1]
  if fits(entry[2]) then found[#found + 1] = entry end
  if #found == tonumber(ARGV[4]) then break end
end
return {last, #entries, cjson.encode(found)}
"""

# KEYS[1] the call's mark, then for each scope (the route, its caller, all calls) a live set and a day's hash, which the
# mark remembers for REAP. ARGV: call id, expiry of a live place in ms, of the mark in ms, of a day in ms, micro-dollars
# to book where money is limited, then for each scope the most calls at once, and calls, milliseconds and micro-dollars
# in a day; '' is no limit. Answers {number of the limit that is reached or 0, milliseconds left or -1, micro-dollars
# booked}. A call that has its mark has its place: it is asked about again, or ended meanwhile.
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
redis.call('HSET', KEYS[1], 'ms', 0, 'micro', money, 'places', table.concat(KEYS, ' ', 2))
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
    if ended then
      try('HSET', mark, 'ended', 1)
      try('HDEL', mark, 'places')
    elseif not seen[1] then
      try('HSET', mark, 'places', table.concat(KEYS, ' ', at + 2, at + count))
    end
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

# KEYS: sets of live calls (limits). Answers how many places of each are taken now.
PLACES_TAKEN = """
local time, found = redis.call('TIME'), {}
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do found[i] = redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf') end
return found
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
