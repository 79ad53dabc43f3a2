SET batch_size = 1
