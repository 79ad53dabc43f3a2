SELECT key FROM milepost.a
