-- One signal of whole flows, hour by hour, as it is compared.
SELECT toString(flow) AS flow, '' AS hop, '' AS stage, {hour} AS i, {value} AS y
FROM {db}.settled_hours FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
