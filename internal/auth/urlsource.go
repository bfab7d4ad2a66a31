package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
)

// source reads an issuer's keys.
type source func(ctx context.Context) ([]byte, error)

// newURLSource returns one that asks an HTTP server.
func newURLSource(address string) (source, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, errors.New("the issuer's keys: that is neither a URL nor a file")
	}
	if err := checkSecure(u); err != nil {
		return nil, fmt.Errorf("the issuer's keys: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // it is asked every few minutes
	transport.MaxResponseHeaderBytes = 64 << 10
	client := &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/jwk-set+json, application/json")
		resp, err := client.Do(req)
		if err != nil {
			if asURL := (*url.Error)(nil); errors.As(err, &asURL) {
				err = asURL.Err // the rest is the URL
			}
			return nil, fmt.Errorf("ask %s: %w", u.Host, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("ask %s: its status is %d", u.Host, resp.StatusCode)
		}
		return readBounded(resp.Body)
	}, nil
}

// checkRedirect is an http.Client's.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > 3 {
		return errors.New("too many redirects")
	}
	if before := via[len(via)-1].URL.Scheme; before == "https" && r.URL.Scheme != before {
		return errors.New("a redirect from https to " + r.URL.Scheme)
	}
	return checkSecure(r.URL)
}

// checkSecure refuses a URL on whose way somebody could put in keys of their own.
func checkSecure(u *url.URL) error {
	addr, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	if u.Scheme == "https" || u.Scheme == "http" && loopback {
		return nil
	}
	return fmt.Errorf("a URL is https, or of this machine: not %s://%s", u.Scheme, u.Host)
}
