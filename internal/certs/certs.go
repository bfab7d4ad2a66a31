// Package certs has the certificates of TLS that are in files, and reads them again when
// the files change: who renews them replaces the files, and no connection is cut.
//
// The files are looked at when a connection begins, and when a client calls who has shown a
// certificate, once a second at most, so that nothing runs meanwhile. Connections that are
// open keep what they began with, but who the client is, is asked again for each call
// (client.go). Files that are broken, or do not fit together, as in the middle of a
// renewal, leave what there was in force.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// interval is how often files are looked at, at most.
const interval = time.Second

// maxFile bounds a file. The certificates that Debian trusts have 220 KB.
const maxFile = 4 << 20

// Files are the names of files in PEM. One that is "" is not there.
type Files struct {
	Cert string // our certificate, and those between it and its authority
	Key  string // its private key
	CA   string // the authorities of the other side
}

// Store has what is in files. It is for many goroutines at once.
type Store struct {
	files   Files
	log     *slog.Logger
	current atomic.Pointer[Pair]

	mu       sync.Mutex // held while the files are looked at
	looked   time.Time  // when they were
	contents contents   // of current
	failed   string     // why they are not in force; "": they are
}

// Pair is what is in the files of a Store.
type Pair struct {
	Certificate *tls.Certificate    // nil: there is none
	Authorities *x509.CertPool      // nil: there are none
	authorities []*x509.Certificate // the same
}

// contents are what stands in files.
type contents struct{ cert, key, ca string }

// Open reads files. An error says which of them is wrong.
func Open(files Files, log *slog.Logger) (*Store, error) {
	s := &Store{files: files, log: log, looked: time.Now()}
	var err error
	if s.contents, err = s.read(); err != nil {
		return nil, err
	}
	p, err := s.parse(s.contents)
	if err != nil {
		return nil, err
	}
	s.use(p)
	return s, nil
}

// Pair returns what is in the files, or was when they were last in order.
func (s *Store) Pair() *Pair {
	if s.mu.TryLock() { // else another one looks: it is not waited for
		if time.Since(s.looked) >= interval {
			s.look()
			s.looked = time.Now()
		}
		s.mu.Unlock()
	}
	return s.current.Load()
}

// look reads the files, and uses what is in them if that is new. Their times would not
// tell: a file may be replaced by one that is older, or twice within a tick.
func (s *Store) look() {
	c, err := s.read()
	if err == nil && c == s.contents {
		s.failed = ""
		return
	}
	var p *Pair
	if err == nil {
		p, err = s.parse(c)
	}
	if err != nil {
		if err.Error() != s.failed {
			s.log.Error("certificates cannot be read again: those from before stay in force", "cause", err)
		}
		s.failed = err.Error()
		return
	}
	s.contents, s.failed = c, ""
	s.log.Info("certificates are read again", "files", s.files.names())
	s.use(p)
}

// use has connections that begin from now on use p.
func (s *Store) use(p *Pair) {
	s.current.Store(p)
	if c := p.Certificate; c != nil && time.Now().After(c.Leaf.NotAfter) {
		s.log.Warn("the certificate has expired", "file", s.files.Cert, "not_after", c.Leaf.NotAfter)
	}
}

// names returns the names of those that are there.
func (f *Files) names() (names []string) {
	for _, name := range []string{f.Cert, f.Key, f.CA} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (s *Store) read() (contents, error) {
	cert, err1 := readFile(s.files.Cert)
	key, err2 := readFile(s.files.Key)
	ca, err3 := readFile(s.files.CA)
	return contents{cert, key, ca}, errors.Join(err1, err2, err3)
}

// readFile reads a file, unless it has no name. It must be a regular one: another, such
// as a pipe, might keep a connection waiting, and have nothing more the second time.
func readFile(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	return string(b), err
}

func (s *Store) parse(c contents) (*Pair, error) {
	p := &Pair{}
	if s.files.Cert != "" {
		certificate, err := tls.X509KeyPair([]byte(c.cert), []byte(c.key))
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", s.files.Cert, s.files.Key, err)
		}
		if err := checkWhole([]byte(c.cert), len(certificate.Certificate)); err != nil {
			return nil, fmt.Errorf("%s: %w", s.files.Cert, err)
		}
		p.Certificate = &certificate
	}
	if s.files.CA != "" {
		var err error
		if p.authorities, err = parseCertificates([]byte(c.ca)); err != nil {
			return nil, fmt.Errorf("%s: %w", s.files.CA, err)
		}
		p.Authorities = x509.NewCertPool()
		for _, authority := range p.authorities {
			p.Authorities.AddCert(authority)
		}
	}
	return p, nil
}

// beginCertificate begins each certificate.
const beginCertificate = "-----BEGIN CERTIFICATE-----"

// parseCertificates parses certificates. Unlike x509.CertPool.AppendCertsFromPEM, it leaves
// none out that is broken.
func parseCertificates(text []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, checkWhole(text, len(all))
}

// checkWhole checks that so many certificates were read as begin in a text: one that is not
// written to its end yet may have only the first ones.
func checkWhole(text []byte, n int) error {
	if begun := bytes.Count(text, []byte(beginCertificate)); n == 0 || n != begun {
		return fmt.Errorf("%d certificates in PEM begin there, and %d are whole", begun, n)
	}
	return nil
}
