//go:build unix

package openai

import (
	"net"
	"syscall"
)

// pending tells, without waiting, whether something has come on a connection that has
// not been read, its end included.
func pending(conn net.Conn) bool {
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
