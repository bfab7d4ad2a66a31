//go:build unix

package app

import "golang.org/x/sys/unix"

// maxFiles is how many files the program may have open; 0: nobody knows.
func maxFiles() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur) // which is signed on FreeBSD
}
