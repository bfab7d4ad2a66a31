package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// maxFile is the largest file of keys, in bytes: ten thousand API keys.
const maxFile = 1 << 20

// pollInterval is how often a file is read again. By its content, not by its time or by
// notifications: these see nothing of what is behind a symbolic link, such as a secret in
// a Kubernetes volume.
const pollInterval = time.Second

// readFile reads a file of keys. It must be a regular one: a pipe would keep us waiting for
// somebody who writes to it, also when we are to stop, and has nothing the second time.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return b, err
}

// every calls f again and again, after what it returns, until ctx is done.
func every(ctx context.Context, first time.Duration, f func() time.Duration) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(f())
		}
	}
}

// trouble logs a cause when it is a new one, and its end. It is for one goroutine at a time.
type trouble struct {
	log  *slog.Logger
	what string // the keys
	now  string
}

// is notes how it went.
func (t *trouble) is(err error) {
	switch {
	case err == nil && t.now != "":
		t.now = ""
		t.log.Info(t.what + ": can be read again")
	case err != nil && err.Error() != t.now:
		t.now = err.Error()
		t.log.Warn(t.what+": cannot be read: those that were read before stay in force", "cause", err)
	}
}
