-- Reserves a call under Upwork's limits for one replica, as one atomic step of the server and by the server's clock.
--
-- KEYS[1]  the calls of the last minute: a sorted set of REPLICA-ID by the moment from which the call counts
-- KEYS[2]  the UTC day, its calls, and the time of the last reservation
-- KEYS[3]  the replicas: a sorted set by the time they were last seen
-- ARGV[1]  the request, and the answer: JSON; times in milliseconds, relative to now
--
-- The windows are those of src/broker/pacing/windows.rs.
local CALLS, STATE, REPLICAS = KEYS[1], KEYS[2], KEYS[3]
local DAY, REPLICA_TIMEOUT = 86400000, 10000

local ask = cjson.decode(ARGV[1])
local prefix = ask.replica .. '-'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- No call is reserved for later. What is there beyond is left from before the clock was set back.
local horizon = now + ask.minute

local saved = redis.call('GET', STATE) or '{"day":0,"used":0,"released":0}'
local state = cjson.decode(saved)
local day = math.floor(now / DAY)
-- A clock set back over midnight does not open yesterday's budget again.
if day > state.day or day < state.day - 1 then state.day, state.used = day, 0 end
state.released = math.min(state.released, horizon)

for _, call in ipairs(ask.counted) do redis.call('ZADD', CALLS, now - call[2], prefix .. call[1]) end
redis.call('ZREMRANGEBYSCORE', CALLS, '-inf', now - ask.minute)
redis.call('ZREMRANGEBYSCORE', CALLS, horizon + ask.slack, '+inf')
-- Whether the day counts every listed call. Soon after midnight some were counted by the day before; then a cancelled call
-- stays counted, and one that is sent again counts again. The second minute is for replicas whose clocks are late.
local same_day = now - 2 * ask.minute >= state.day * DAY
for _, id in ipairs(ask.cancelled) do
    local removed = redis.call('ZREM', CALLS, prefix .. id)
    if same_day then state.used = math.max(0, state.used - removed) end
end
if ask.unreported and ask.unreported[1] >= state.day then state.used = state.used + ask.unreported[2] end

local function from_last(place)
    return tonumber(redis.call('ZRANGE', CALLS, -place, -place, 'WITHSCORES')[2])
end

local function next_free()
    local at = now
    local second, minute = from_last(ask.per_second), from_last(ask.per_minute)
    if second then at = math.max(at, second + ask.second) end
    if minute then at = math.max(at, minute + ask.minute) end
    local counted = redis.call('ZCOUNT', CALLS, '(' .. at - ask.minute, '+inf')
    if counted < ask.per_minute - math.floor(ask.per_minute / 3) then return at end
    -- The last third of the minute is spread over what is left of it.
    local left = math.max(0, ask.per_minute - counted)
    local span = math.max(0, from_last(counted) + ask.minute - state.released)
    return math.max(at, state.released + math.floor(span / (left + 1)))
end

local reply = {}
if ask.call then
    local at, midnight = next_free(), (state.day + 1) * DAY
    if state.used >= ask.per_day then at = math.max(at, midnight) end
    reply.wait = at - now
    reply.reserved = at < midnight and at <= horizon and reply.wait <= ask.patience
    if reply.reserved then
        -- A request that is sent again, since its answer was lost, counts once.
        local added = redis.call('ZADD', CALLS, at + ask.slack, prefix .. ask.call)
        state.used = state.used + (same_day and added or 1)
        state.released = at
    end
end
reply.day, reply.used = state.day, state.used

redis.call('ZADD', REPLICAS, now, ask.replica)
redis.call('ZREMRANGEBYSCORE', REPLICAS, '-inf', now - REPLICA_TIMEOUT)
reply.replicas = redis.call('ZCOUNT', REPLICAS, '-inf', '+inf')
if ask.view then
    local found, calls = redis.call('ZRANGE', CALLS, 0, -1, 'WITHSCORES'), {}
    for place = 1, #found, 2 do
        local own = found[place]:sub(1, #prefix) == prefix
        calls[#calls + 1] = { now - found[place + 1], own and tonumber(found[place]:sub(#prefix + 1)) or 0 }
    end
    -- An empty table would be written as an object.
    if #calls > 0 then reply.calls = calls end
end

local after = cjson.encode(state)
if after ~= saved then redis.call('SET', STATE, after, 'PX', 2 * DAY) end
redis.call('PEXPIRE', CALLS, 2 * ask.minute)
redis.call('PEXPIRE', REPLICAS, 2 * REPLICA_TIMEOUT)
return cjson.encode(reply)
