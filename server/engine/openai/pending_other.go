//go:build !unix

package openai

import "net"

// pending tells, without waiting, whether something has come on a connection that has
// not been read. Here that cannot be told.
func pending(net.Conn) bool { return false }
