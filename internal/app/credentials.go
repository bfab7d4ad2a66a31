package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/sluice-sse/sluice/internal/auth"
)

// credentialFlags say who may call the gRPC face, and with it the HTTP face.
type credentialFlags struct {
	APIKeys        string `name:"api-keys" placeholder:"FILE" help:"A file of lines that sluice hash-key makes, one for each key. It is read again when it changes."`
	JWTIssuer      string `name:"jwt-issuer" placeholder:"URL" help:"Who makes signed tokens, as they have it in iss. Whom they name in sub may call."`
	JWTAudience    string `name:"jwt-audience" placeholder:"NAME" help:"For whom they are made, as they have it in aud."`
	JWTJWKS        string `name:"jwt-jwks" placeholder:"URL|FILE" help:"The keys that they are signed with (a JWKS), which are read again and again."`
	AllowAnonymous bool   `help:"Let callers without credentials in, too. Without any of the above, and on loopback addresses alone, they are."`

	clientCA string // tlsFlags have it: certificates of these authorities are credentials, too; "": there are none
}

// check refuses what would not do.
func (f *credentialFlags) check() error {
	given := []bool{f.JWTIssuer != "", f.JWTAudience != "", f.JWTJWKS != ""}
	if given[0] != given[1] || given[1] != given[2] {
		return errors.New("--jwt-issuer, --jwt-audience, --jwt-jwks: tokens need all three")
	}
	return nil
}

// configured says whether anybody has credentials.
func (f *credentialFlags) configured() bool {
	return f.APIKeys != "" || f.JWTIssuer != "" || f.clientCA != ""
}

// authenticator returns what finds out who calls. It is to be closed.
func (f *credentialFlags) authenticator(log *slog.Logger) (*auth.Authenticator, error) {
	return auth.New(auth.Config{
		APIKeys:        f.APIKeys,
		Tokens:         auth.Tokens{Issuer: f.JWTIssuer, Audience: f.JWTAudience, Keys: f.JWTJWKS},
		Certificates:   f.clientCA != "",
		AllowAnonymous: f.AllowAnonymous,
		Log:            log,
	})
}

// checkOpen refuses to serve strangers who need no credentials, unless it was said that
// they may.
func (f *credentialFlags) checkOpen(flag, address string, listener net.Addr) error {
	if f.configured() || f.AllowAnonymous || isLoopback(listener) {
		return nil
	}
	return fmt.Errorf("%s %s: others can reach this address, and anybody could spend what the upstream costs. "+
		"Say who may call, with --api-keys FILE (sluice hash-key makes its lines), --jwt-issuer or --tls-client-ca; or that everybody may, with --allow-anonymous; "+
		"or take an address of this machine alone, such as 127.0.0.1", flag, address)
}

func isLoopback(listener net.Addr) bool {
	tcp, ok := listener.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// callersLine tells who may call.
func (f *credentialFlags) callersLine() string {
	var who []string
	if f.APIKeys != "" {
		who = append(who, "with a key of "+f.APIKeys)
	}
	if f.JWTIssuer != "" {
		who = append(who, "with a token of "+f.JWTIssuer)
	}
	if f.clientCA != "" {
		who = append(who, "with a certificate of "+f.clientCA)
	}
	switch {
	case len(who) == 0 && !f.AllowAnonymous:
		return ""
	case f.AllowAnonymous:
		who = append(who, "anybody without")
	}
	return "  callers   " + strings.Join(who, ", ") + "\n"
}

// maxKeyInput is more than any key has, in bytes.
const maxKeyInput = 64 << 10

// run prints the line of a key, which it reads from standard input: an argument could be
// seen by every user of the machine, and stays in the shell's history.
func (c *hashKeyCommand) run(_ context.Context, p *program) error {
	if info, err := os.Stdin.Stat(); p.stdin == os.Stdin && err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintln(p.stderr, "The key, and Enter:")
	}
	line, err := bufio.NewReader(io.LimitReader(p.stdin, maxKeyInput)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the key: %w", err)
	}
	hashed, err := auth.HashKey(c.Principal, strings.TrimSpace(line))
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, hashed)
	return nil
}
