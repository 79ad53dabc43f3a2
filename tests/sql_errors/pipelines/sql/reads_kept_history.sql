SELECT k.id FROM kept_history AS k
