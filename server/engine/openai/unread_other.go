//go:build !unix

package openai

import "net"

// hasUnread cannot tell here whether there is something to read on a connection.
func hasUnread(net.Conn) bool { return false }
