//! AF_XDP capture process: frames in, events out to shared memory.
