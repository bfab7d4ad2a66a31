package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// What each face of the program can be told. A flag is also read from the
// environment, as SLUICE_ and its name: --max-body is SLUICE_MAX_BODY. The flag
// wins.

type serverFlags struct {
	GRPC             string        `group:"gRPC" name:"grpc" default:"127.0.0.1:9090" help:"Where to serve gRPC. Port 0 takes a free one."`
	OpenAIBaseURL    string        `group:"Upstream" name:"openai-base-url" also:"OPENAI_BASE_URL" placeholder:"URL" help:"An OpenAI-compatible server, such as https://api.openai.com/v1. Without one there is only the embedded model \"echo\"."`
	OpenAIAPIKeyFile string        `group:"Upstream" name:"openai-api-key-file" type:"existingfile" placeholder:"FILE" help:"A file with the key for it. Without one: the key in $$OPENAI_API_KEY."`
	OpenAIAPIType    string        `group:"Upstream" name:"openai-api-type" also:"OPENAI_API_TYPE" enum:"openai,azure" default:"openai" help:"Its paths and headers."`
	OpenAIAPIVersion string        `group:"Upstream" name:"openai-api-version" also:"OPENAI_API_VERSION" placeholder:"DATE" help:"The api-version of an azure server."`
	Model            string        `group:"Upstream" placeholder:"NAME" help:"The model for requests that name none. Without an OpenAI-compatible server: echo."`
	EchoInterval     time.Duration `group:"Upstream" default:"30ms" help:"The pause between two words of echo."`

	ConnectTimeout    positiveDuration `group:"Timeouts" default:"10s" help:"For connecting to the OpenAI-compatible server."`
	FirstTokenTimeout positiveDuration `group:"Timeouts" default:"5m" help:"For its first chunk."`
	IdleTimeout       positiveDuration `group:"Timeouts" default:"2m" help:"For each chunk after that."`
	TotalTimeout      positiveDuration `group:"Timeouts" default:"1h" help:"For a whole completion."`
	UpstreamRetries   uint8            `group:"Upstream" default:"1" help:"How often a request is sent again that has cost nothing: the connection was refused, or the server said when to come back, within 4s."`

	MaxDisconnectGrace time.Duration `group:"Completions" default:"10m" help:"The longest disconnect_grace that a request gets."`

	journalFlags    `group:"Completions"`
	credentialFlags `group:"Credentials"`
	limitFlags      `group:"Limits"`

	grpcConnectionFlags `group:"Connections"`
	grpcTLSFlags        `group:"TLS"`
}

type bridgeFlags struct {
	HTTP         string           `group:"HTTP" name:"http" default:"127.0.0.1:8080" help:"Where to serve HTTP. Port 0 takes a free one."`
	CommitWindow positiveDuration `group:"HTTP" default:"5s" help:"How long to hold the status line back for the first event, so that a refusal is a true status."`
	Heartbeat    positiveDuration `group:"HTTP" default:"15s" help:"How much silence a comment breaks."`
	CORSOrigin   []string         `group:"HTTP" name:"cors-origin" placeholder:"ORIGIN" help:"An origin whose pages may call, such as https://example.com; may be repeated."`
	AllowHost    []string         `group:"HTTP" name:"allow-host" placeholder:"NAME" help:"A name or address under which clients may call, beside localhost, loopback addresses and that of --http; may be repeated. On a loopback address no others may, so that no web page gets in by a name that resolves to it. Elsewhere, and with \"*\", any may, unless some are named."`

	openAIFlags `group:"OpenAI clients"`

	httpConnectionFlags `group:"Connections"`
}

type commonFlags struct {
	connectionFlags `group:"Connections"`
	tlsFlags        `group:"TLS"`
	telemetryFlags  `group:"Telemetry"`

	MaxBody       byteSize         `group:"Limits" default:"4MiB" help:"The largest request, as JSON. Of a bridge and its server, the same."`
	WriteTimeout  positiveDuration `group:"Timeouts" default:"30s" help:"How long a reader may take nothing before it is let go."`
	ShutdownDelay optionalDuration `group:"Stopping" placeholder:"DURATION" help:"How long /readyz and the health service say, after SIGINT or SIGTERM, that no requests are taken, before the listeners close. By default 5s, but 0s where all listeners are on loopback addresses, or the log goes to a terminal."`
	DrainTimeout  positiveDuration `group:"Stopping" default:"10s" help:"How long running completions may go on after SIGINT or SIGTERM."`
	Version       kong.VersionFlag `help:"Print the version."`
}

// The commands.

type bothCommand struct {
	bridgeFlags
	serverFlags
	commonFlags
}

type serverCommand struct {
	serverFlags
	commonFlags
}

type bridgeCommand struct {
	bridgeFlags
	Server        string `group:"Server" default:"127.0.0.1:9090" help:"The server: any gRPC target, such as dns:///sluice.internal:9090. Of several addresses, one at a time is used, so that no completion is resumed where it is not known."`
	SharedJournal bool   `group:"Server" help:"The servers share a journal (--journal): use all addresses of --server in turn."`
	Compression   string `group:"Server" name:"server-compression" enum:"none,gzip" default:"none" help:"How requests to the server are compressed: gzip, or not at all. What the server compresses is understood anyway. A server that does not know it answers UNIMPLEMENTED."`
	exposeFlags   `group:"Any method"`
	commonFlags
	serverTLSFlags `group:"Server"`
}

type hashKeyCommand struct {
	Principal string           `arg:"" help:"Whose key it is: a name without spaces."`
	Version   kong.VersionFlag `help:"Print the version."`
}

const description = `Completions of language models over gRPC, and over POST and server-sent events.

  sluice         both faces in one process
  sluice server  the gRPC face alone
  sluice bridge  the HTTP face alone, in front of a server
  sluice hash-key PRINCIPAL
                 a line of the file of API keys, for the key on standard input
  sluice help    this, and with a command behind it what that can be told
  sluice version

Each flag is also an environment variable: --max-body is SLUICE_MAX_BODY.
`

// variables returns the environment variables that stand for a flag: SLUICE_ and
// its name, and then what other programs call the same thing.
func variables(v *kong.Value) []string {
	names := []string{"SLUICE_" + strings.ToUpper(strings.ReplaceAll(v.Name, "-", "_"))}
	if also := v.Tag.Get("also"); also != "" {
		names = append(names, also)
	}
	return names
}

// environment resolves flags that are not on the command line.
func environment(getenv func(string) string) kong.ResolverFunc {
	return func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if flag.Name == "help" || flag.Name == "version" {
			return nil, nil
		}
		for _, name := range variables(flag.Value) {
			if value := getenv(name); value != "" {
				return value, nil
			}
		}
		return nil, nil
	}
}

// withEnvironment is a flag's help and its other environment variables: what all flags
// have, the description says.
func withEnvironment(v *kong.Value) string {
	if also := v.Tag.Get("also"); also != "" {
		return fmt.Sprintf("%s ($%s)", v.Help, also)
	}
	return v.Help
}

// positiveDuration is a duration that is not zero, which would mean never to some readers
// and at once to others.
type positiveDuration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *positiveDuration) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a positive duration such as 30s or 1m30s", text)
	}
	*p = positiveDuration(d)
	return nil
}

// nonNegativeDuration is a duration that may be zero.
type nonNegativeDuration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *nonNegativeDuration) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 0s or 1m30s", text)
	}
	*p = nonNegativeDuration(d)
	return nil
}

// optionalDuration is one that need not be given.
type optionalDuration struct {
	duration nonNegativeDuration
	given    bool
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *optionalDuration) UnmarshalText(text []byte) error {
	o.given = true
	return o.duration.UnmarshalText(text)
}

// shutdownDelay is --shutdown-delay, or its default, given where the log goes and where
// the program listens. It is that of a service, whose load balancers ask /readyz every few
// seconds. Nobody asks at a terminal, nor, as a rule, where only this machine can, and who
// stops a program there waits for it.
func (f *commonFlags) shutdownDelay(log io.Writer, listeners ...net.Addr) time.Duration {
	const ofService = 5 * time.Second
	remote := slices.ContainsFunc(listeners, func(l net.Addr) bool { return !isLoopback(l) })
	switch file, ok := log.(*os.File); {
	case f.ShutdownDelay.given:
		return time.Duration(f.ShutdownDelay.duration)
	case !remote, !ok:
		return 0
	default:
		if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice != 0 {
			return 0
		}
		return ofService
	}
}

// maxSize leaves room for what is computed of sizes.
const maxSize = 1 << 50

// byteSize is a size that is not zero: a number, with KiB, MiB or GiB behind it if need be.
type byteSize int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *byteSize) UnmarshalText(text []byte) error {
	number, unit := string(text), int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = strings.TrimSpace(n), 1<<(10*(i+1))
		}
	}
	var n int64
	if _, err := fmt.Sscanf(number+"\n", "%d\n", &n); err != nil || n <= 0 || n > maxSize/unit {
		return fmt.Errorf("%q is not a size such as 4194304 or 4MiB", text)
	}
	*b = byteSize(n * unit)
	return nil
}

// Validate implements kong.Validatable.
func (f *serverFlags) Validate() error {
	return errors.Join(f.journalFlags.check(), f.credentialFlags.check(), f.limitFlags.check())
}

// apiKey returns the key for the OpenAI-compatible server. It never is an
// argument, which every user of the machine can see.
func (f *serverFlags) apiKey(getenv func(string) string) (string, error) {
	if f.OpenAIAPIKeyFile == "" {
		return getenv("OPENAI_API_KEY"), nil
	}
	b, err := os.ReadFile(f.OpenAIAPIKeyFile)
	if err != nil {
		return "", fmt.Errorf("read the API key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "sluice (unknown version)"
	}
	return "sluice " + info.Main.Version
}
