-- KEYS: the message. ARGV: token, 1 for doubt or 0. Nothing happens where another claim counts.
local kept = redis.call('GET', KEYS[1])
local token, doubt = string.match(kept or '', '^held (%d+) %d+ ([01])$')
if token ~= ARGV[1] then return 0 end
if doubt == '1' or ARGV[2] == '1' then
    redis.call('SET', KEYS[1], 'held ' .. token .. ' 0 1', 'KEEPTTL')
else
    redis.call('DEL', KEYS[1])
end
return 1
