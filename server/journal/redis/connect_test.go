package redis

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// rightsInDocs returns the rights that docs/instances.md says a user needs.
func rightsInDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/instances.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)ACL SETUSER sluice on >PASSWORD (.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("there are none")
	}
	return string(found[1])
}

// TestSentinelWantsPassword has sentinels, and a store behind them, that want a user and a
// password, each another one, and the user of the store have the rights that are named.
func TestSentinelWantsPassword(t *testing.T) {
	t.Parallel()
	primary := testbed.StartRedis(t)
	admin := connect(t, primary)
	rights := append([]string{"SETUSER", "sluice", "on", ">of-the-store"}, strings.Fields(rightsInDocs(t))...)
	if err := admin.Do(t.Context(), admin.B().Arbitrary("ACL").Args(rights...).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	sentinel := testbed.StartSentinel(t, primary,
		"user default off", "user watch on >of-the-sentinels allchannels +@all")
	at := func(userinfo, more string) string {
		return "redis://" + userinfo + "@" + sentinel.Addr + "?master_set=primary" + more
	}
	for _, tt := range []struct {
		name   string
		config Config
		works  bool
	}{
		{"in the URL", Config{URL: at("sluice:of-the-store", "&sentinel_username=watch&sentinel_password=of-the-sentinels")}, true},
		{"apart", Config{URL: at("sluice", "&sentinel_username=watch"), Password: "of-the-store", Sentinel: "of-the-sentinels"}, true},
		{"apart wins", Config{URL: at("sluice:x", "&sentinel_username=watch&sentinel_password=y"), Password: "of-the-store", Sentinel: "of-the-sentinels"}, true},
		{"none", Config{URL: at("sluice:of-the-store", "")}, false},
		{"the store's", Config{URL: at("sluice:of-the-store", "&sentinel_username=watch&sentinel_password=of-the-store")}, false},
		{"without sentinels", Config{URL: "redis://sluice:of-the-store@" + primary.Addr + "?sentinel_password=of-the-sentinels"}, false},
		{"malformed", Config{URL: at("sluice:of-the-store", "&sentinel_password=of-the-sentinels&db=%zz")}, false},
	} {
		tt.config.Patience = time.Second
		j, err := New(tt.config)
		if (err == nil) != tt.works {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			if strings.Contains(err.Error(), "of-the") {
				t.Errorf("%s: it names a secret: %v", tt.name, err)
			}
			continue
		}
		w, _ := create(t, j, tt.name)
		add(t, w, 1, 2)
		end(t, w, 3)
		j.Close()
	}
}

// TestSentinelIsNotHeard has a sentinel have another store take the place of the one that
// is used, and nobody hear it say so: that one lives, and takes nothing any more.
func TestSentinelIsNotHeard(t *testing.T) {
	t.Parallel()
	primary, replica := testbed.StartRedis(t), testbed.StartRedis(t)
	sentinel := testbed.StartSentinel(t, primary)
	config := Config{Lease: time.Second, Patience: 400 * time.Millisecond}
	a := open(t, sentinel, config)
	w, _ := create(t, a, "c")
	add(t, w, 1, 1)
	// The sentinel says "+switch-master" to none: it is told of another primary by hand.
	control := connect(t, sentinel)
	host, port, _ := strings.Cut(replica.Addr, ":")
	for _, args := range [][]string{{"SENTINEL", "REMOVE", "primary"}, {"SENTINEL", "MONITOR", "primary", host, port, "1"}} {
		if err := control.Do(t.Context(), control.B().Arbitrary(args...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ = strings.Cut(replica.Addr, ":")
	old := connect(t, primary)
	if err := old.Do(t.Context(), old.B().Arbitrary("REPLICAOF", host, port).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	add(t, w, 2, 3)
	end(t, w, 4)
	b := open(t, &testbed.Redis{URL: replica.URL}, Config{})
	eventually(t, "the new store does not get it", func() bool {
		info, err := b.Get(t.Context(), "c")
		return err == nil && info.Ended && info.Last == 4
	})
}
