-- Positions are kept by passes, of flows with range evidence; a view kept them of all events. Cost: metadata
DROP VIEW IF EXISTS {db}.positions_from_events
