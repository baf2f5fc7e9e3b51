-- KEYS: the message. ARGV: token, keep in ms. Answers 1 when it is marked, 0 when another claim counts.
local kept = redis.call('GET', KEYS[1])
if not kept then
    redis.call('SET', KEYS[1], 'done ' .. ARGV[1], 'PX', ARGV[2])
    return 1
end
if string.match(kept, '^%a+ (%d+)') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'done ' .. ARGV[1], 'KEEPTTL')
return 1
