package http1

import "net"

// Unwrap returns the connection in one that has been given back.
func Unwrap(c net.Conn) net.Conn {
	if r, ok := c.(*returnedConn); ok {
		return r.Conn
	}
	return c
}
