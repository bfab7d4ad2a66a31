package connlimit

import (
	"net"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
)

// GRPC returns credentials for a grpc.Server that are those given, and close a connection
// whose client resets more streams than so many a second in the long run, or five times as
// many at once. Closed is called then.
//
// They look at the frames that come in, as a stream may be reset before an interceptor
// runs: that costs a goroutine each.
func GRPC(inner credentials.TransportCredentials, perSecond int, closed func(remote net.Addr)) credentials.TransportCredentials {
	return &grpcCredentials{inner, perSecond, closed}
}

type grpcCredentials struct {
	credentials.TransportCredentials
	perSecond int
	closed    func(net.Addr)
}

// ServerHandshake implements credentials.TransportCredentials.
func (g *grpcCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := g.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	return &grpcConn{Conn: c, raw: raw, closed: g.closed, skip: len(http2.ClientPreface),
		resets: newResets(g.perSecond)}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (g *grpcCredentials) Clone() credentials.TransportCredentials {
	return &grpcCredentials{g.TransportCredentials.Clone(), g.perSecond, g.closed}
}

// headerSize is the size of a frame's header in bytes (RFC 9113, section 4.1).
const headerSize = 9

// grpcConn looks at the frames that are read. One goroutine reads.
type grpcConn struct {
	net.Conn
	raw    net.Conn // under TLS
	closed func(net.Addr)
	resets resets

	skip   int // how many bytes come before the next frame
	header [headerSize]byte
	have   int // how many bytes of the header have come
}

// Read implements net.Conn.
func (c *grpcConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	var wait time.Duration
	for range c.countResets(p[:n]) {
		var ok bool
		if wait, ok = c.resets.add(); !ok {
			if c.raw.Close() == nil {
				c.closed(c.raw.RemoteAddr())
			}
			return 0, errResets
		}
	}
	time.Sleep(wait) // the client waits, too: the system takes no more from it
	return n, err
}

// countResets returns how many frames that reset a stream begin in what was read.
func (c *grpcConn) countResets(b []byte) (n int) {
	for {
		skipped := min(c.skip, len(b))
		c.skip -= skipped
		copied := copy(c.header[c.have:], b[skipped:])
		b = b[skipped+copied:]
		if c.have += copied; c.have < headerSize {
			return n
		}
		c.have = 0
		c.skip = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
		if http2.FrameType(c.header[3]) == http2.FrameRSTStream {
			n++
		}
	}
}
