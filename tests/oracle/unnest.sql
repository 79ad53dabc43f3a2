SELECT key, unnest(string_to_array(note, ' ')) AS word FROM a
