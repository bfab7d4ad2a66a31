package server

import (
	"context"
	"net/netip"

	"google.golang.org/grpc/peer"
)

// peerOf returns where a call has come from: the connection, and the host that made it,
// which may be many callers' (a bridge, a proxy). Of IPv6, whoever has an address has all
// that begin with the same 64 bits.
func peerOf(ctx context.Context) (connection, host string) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "", ""
	}
	connection = p.Addr.String()
	at, err := netip.ParseAddrPort(connection)
	if err != nil {
		return connection, connection
	}
	addr := at.Addr().Unmap()
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			addr = prefix.Addr()
		}
	}
	return connection, addr.String()
}
