//go:build unix

package openai

import (
	"net"
	"syscall"
)

// hasUnread tells, without blocking, whether there is something to read on a
// connection, or its end.
func hasUnread(conn net.Conn) bool {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	c, err := raw.SyscallConn()
	if err != nil {
		return true
	}
	nothing := false
	err = c.Read(func(fd uintptr) bool { // the descriptor does not block
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		nothing = err == syscall.EAGAIN
		return true
	})
	return err != nil || !nothing
}
