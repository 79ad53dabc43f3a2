SELECT unnest(named_struct('k', key, 'l', line)) FROM a
