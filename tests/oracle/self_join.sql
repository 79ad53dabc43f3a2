SELECT x.key, x.line, y.line AS other FROM a x JOIN a y ON x.key = y.key AND x.line < y.line
