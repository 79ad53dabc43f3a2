SELECT id FROM rowz
