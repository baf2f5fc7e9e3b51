-- Keeps what is new of messages, merged with what was known of them, where several questions are asked about it.
INSERT INTO {db}.{merged}
{merging}
