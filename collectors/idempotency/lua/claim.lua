-- KEYS: the message. ARGV: lease in µs, keep in ms. Answers {what, token, left in µs}.
-- The value: "done TOKEN", or "held TOKEN UNTIL DOUBT". Times are of this server, in µs: below 2^53, so exact.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local kept = redis.call('GET', KEYS[1])
local token, doubt = now, 0
if kept then
    local marked = string.match(kept, '^done (%d+)$')
    if marked then return {'done', tonumber(marked), 0} end
    local last, ends = string.match(kept, '^held (%d+) (%d+) [01]$')
    if not last then return redis.error_reply('no record of ours at ' .. KEYS[1]) end
    last, ends = tonumber(last), tonumber(ends)
    if ends > now then return {'busy', last, ends - now} end
    token, doubt = math.max(now, last + 1), 1
end
local value = string.format('held %.0f %.0f %d', token, now + tonumber(ARGV[1]), doubt)
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return {doubt == 1 and 'unknown' or 'first', token, 0}
