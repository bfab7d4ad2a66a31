package app

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/memory"
	"github.com/sluice-sse/sluice/server/journal/redis"
)

// journalFlags say where completions are kept, and how much and how long.
type journalFlags struct {
	Retention           positiveDuration `default:"10m" help:"How long an ended completion can be read again."`
	JournalMemory       byteSize         `default:"256MiB" help:"The most memory for completions; the first to have ended go first."`
	MaxCompletionBytes  byteSize         `default:"16MiB" help:"The most memory for one completion."`
	Journal             string           `placeholder:"URL" help:"A Redis 7.0 or Valkey where several servers keep their completions, such as redis://HOST:PORT, so that each answers for all: rediss:// for TLS, ?addr=HOST:PORT for more nodes of a cluster, ?master_set=NAME for sentinels. Without it, each has its own in memory."`
	JournalPasswordFile string           `type:"existingfile" placeholder:"FILE" help:"A file with the password for it. Arguments can be seen by every user of the machine."`

	JournalSentinelPasswordFile string `type:"existingfile" placeholder:"FILE" help:"A file with the password for its sentinels, if they want one; their user is ?sentinel_username=NAME."`
}

// keptJournal is a journal that the program closes.
type keptJournal interface {
	journal.Journal

	// Bytes returns how much memory of this process it takes.
	Bytes() int64
	Close()
}

// minJournal is what a journal needs to be of use. Who gives it less has left out a
// unit, and would have every completion refused, or fail after it was paid for.
const minJournal = 4 << 10

// check refuses what cannot be meant.
func (f *journalFlags) check() error {
	for name, size := range map[string]byteSize{"journal-memory": f.JournalMemory, "max-completion-bytes": f.MaxCompletionBytes} {
		if size < minJournal {
			return fmt.Errorf("--%s=%d: that is less than 4KiB", name, size)
		}
	}
	for name, file := range f.passwordFiles() {
		if file != "" && f.Journal == "" {
			return fmt.Errorf("--%s: it needs --journal", name)
		}
	}
	return nil
}

func (f *journalFlags) passwordFiles() map[string]string {
	return map[string]string{
		"journal-password-file":          f.JournalPasswordFile,
		"journal-sentinel-password-file": f.JournalSentinelPasswordFile,
	}
}

// journalService is what the health service says of the store that the journal is in; the
// bridge asks for it.
const journalService = "completion.v1.Journal"

// open opens the journal. A completion lives no longer than life.
func (f *journalFlags) open(life time.Duration, log *slog.Logger) (keptJournal, error) {
	config := memory.Config{
		Retention:     time.Duration(f.Retention),
		Bytes:         int64(f.JournalMemory),
		MaxCompletion: int64(f.MaxCompletionBytes),
	}
	if f.Journal == "" {
		return memory.New(config), nil
	}
	passwords := map[string]string{}
	for name, file := range f.passwordFiles() {
		if file == "" {
			continue
		}
		password, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err)
		}
		passwords[name] = strings.TrimSpace(string(password))
	}
	j, err := redis.New(redis.Config{
		URL:       f.Journal,
		Password:  passwords["journal-password-file"],
		Sentinel:  passwords["journal-sentinel-password-file"],
		Retention: config.Retention,
		Life:      life,
		Memory:    config,
		Log:       log,
	})
	if err != nil {
		return nil, fmt.Errorf("--journal: %w", err)
	}
	return j, nil
}

// tellOutages has the health service tell whether the store of a journal can be had.
func tellOutages(j keptJournal, h *health.Server) {
	store, ok := j.(*redis.Journal)
	if !ok {
		return
	}
	store.Notify(func(available bool) {
		status := healthpb.HealthCheckResponse_NOT_SERVING
		if available {
			status = healthpb.HealthCheckResponse_SERVING
		}
		h.SetServingStatus(journalService, status)
	})
}
