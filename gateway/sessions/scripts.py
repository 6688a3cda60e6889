"""
What runs inside Redis: two Lua scripts, each atomic there.

Their keys are not in one hash slot, so a Redis Cluster refuses them.
"""

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

# KEYS: live set, the call's hash, stream; ARGV: call id, Unix seconds, reaping worker, stream length.
REAP = """
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'call_id', ARGV[1], 'event', 'orphaned', 'at', ARGV[2],
  'worker', ARGV[3], 'state', 'ended', 'end_reason', 'worker_died', 'ended_by', 'gateway')
return 1
"""
