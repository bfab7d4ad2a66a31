package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/redis/rueidis"
)

// newClient returns a client of the store, and has broken be called whenever a connection
// breaks. Its errors have no secret.
func newClient(config Config, broken func()) (rueidis.Client, error) {
	option, err := clientOption(config)
	if err != nil {
		return nil, err
	}
	dial := option.DialCtxFn // of unix://
	if dial == nil {
		dial = dialTCP
	}
	option.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
		c, err := dial(ctx, address, d, secure)
		if err != nil {
			return nil, err
		}
		return &connection{Conn: c, broken: broken}, nil
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("connect to the journal's store: %w", err)
	}
	return client, nil
}

func dialTCP(ctx context.Context, address string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
	if secure != nil {
		return (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, "tcp", address)
	}
	return d.DialContext(ctx, "tcp", address)
}

// connection is one that tells when it breaks: rueidis replaces one on which nobody waits
// for an answer, and says nothing.
type connection struct {
	net.Conn
	broken func()
}

// Read implements net.Conn.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // that is a caller's
		c.broken()
	}
	return n, err
}

func clientOption(config Config) (option rueidis.ClientOption, err error) {
	option, err = rueidis.ParseURL(config.URL)
	if err != nil {
		return option, errors.New("not the URL of a Redis") // err may have the password
	}
	option.Password = cmp.Or(config.Password, option.Password)
	option.DisableCache = true
	option.DisableRetry = true // see try: rueidis uses a command's memory again that it still writes
	option.ClientName = config.Prefix
	option.Dialer = net.Dialer{Timeout: config.Patience, KeepAlive: time.Second}
	option.ConnWriteTimeout = 2 * config.Patience
	if option.TLSConfig != nil {
		option.TLSConfig.ServerName = "" // that of each address, not of the first one
	}
	return option, setSentinel(&option.Sentinel, option, config)
}

// setSentinel sets how the sentinels are connected to. That of the URL's names and passwords
// which stand before its host is the store's: rueidis has it so, and go-redis the reverse.
func setSentinel(s *rueidis.SentinelOption, store rueidis.ClientOption, config Config) error {
	u, err := url.Parse(config.URL)
	if err != nil {
		return errors.New("not the URL of a Redis")
	}
	s.Dialer, s.TLSConfig, s.ClientName = store.Dialer, store.TLSConfig, store.ClientName
	s.Username = u.Query().Get("sentinel_username")
	s.Password = cmp.Or(config.Sentinel, u.Query().Get("sentinel_password"))
	if s.MasterSet == "" && (s.Username != "" || s.Password != "") {
		return errors.New("a name or a password for sentinels, and no master_set")
	}
	// They publish that another store takes the place of the one that is used. Who does not
	// hear it would use that for ever: it lives, and takes nothing.
	s.TopologyRefreshInterval = config.Lease / 2
	return nil
}
