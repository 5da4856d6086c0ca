package mesh

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

func TestPeerIDRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var id DeviceID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "id"))
		text := PeerID(id)
		if got, err := ParsePeerID(text); err != nil || got != id {
			rt.Fatalf("%x -> %s -> %x, %v", id, text, got, err)
		}
	})
	for _, bad := range []string{"", "x", "12D3KooW", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", strings.Repeat("1", 1000)} {
		if _, err := ParsePeerID(bad); !errors.Is(err, ErrBadAddress) {
			t.Errorf("ParsePeerID(%.20q): %v, want ErrBadAddress", bad, err)
		}
	}
}

func TestPathOf(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]Path{
		"/ip4/127.0.0.1/tcp/1":            PathLAN,
		"/ip6/::1/udp/1/quic-v1":          PathLAN,
		"/ip4/192.168.7.1/tcp/1":          PathLAN,
		"/ip4/10.1.2.3/tcp/1":             PathLAN,
		"/ip4/172.31.0.1/tcp/1":           PathLAN,
		"/ip4/169.254.3.4/tcp/1":          PathLAN,
		"/ip4/100.100.1.1/tcp/1":          PathLAN,
		"/ip6/fe80::1/tcp/1":              PathLAN,
		"/ip6zone/eth0/ip6/fe80::1/tcp/1": PathLAN,
		"/ip6/fd12::1/tcp/1":              PathLAN,
		"/ip6/::ffff:192.168.7.1/tcp/1":   PathLAN,
		"/ip4/172.32.0.1/tcp/1":           PathDirect,
		"/ip4/100.128.0.1/tcp/1":          PathDirect,
		"/ip4/198.51.100.1/udp/1/quic-v1": PathDirect,
		"/ip6/2001:db8::1/tcp/1":          PathDirect,
		"/ip4/10.0.0.1/tcp/1/p2p/12D3KooWDT7a7rnaPXwjoqDyF2r8UEjMJ8VZevzTZJ7pzo4PP3Rr/p2p-circuit": PathRelayed,
	} {
		if got := pathOf(ma.StringCast(addr)); got != want {
			t.Errorf("pathOf(%s) = %q, want %q", addr, got, want)
		}
	}
}

func TestTellable(t *testing.T) {
	t.Parallel()
	all := []string{
		"/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip4/100.64.0.1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6zone/en0/ip6/fe80::2/tcp/1", "/ip6/fd00::1/udp/1/quic-v1",
		"/ip4/198.51.100.1/tcp/1", "/ip6/2001:db8::1/udp/1/quic-v1", "/dns4/example.org/tcp/1", "/ip4/198.51.100.1/tcp/1/ws", "/ip4/0.0.0.0/tcp/1",
	}
	public := []string{"/ip4/198.51.100.1/tcp/1", "/ip6/2001:db8::1/udp/1/quic-v1", "/dns4/example.org/tcp/1"}
	private := append([]string{"/ip4/192.168.1.2/tcp/1", "/ip4/100.64.0.1/tcp/1", "/ip6zone/en0/ip6/fe80::2/tcp/1", "/ip6/fd00::1/udp/1/quic-v1"}, public...)
	parse := func(texts []string) (out []ma.Multiaddr) {
		for _, s := range texts {
			out = append(out, ma.StringCast(s))
		}
		return out
	}
	for remote, want := range map[string][]string{
		"/ip4/203.0.113.5/tcp/9":  public,
		"/ip6/2001:db8::9/tcp/9":  public,
		"/ip4/192.168.1.77/tcp/9": private,
		"/ip4/127.0.0.1/tcp/9":    append([]string{"/ip4/127.0.0.1/tcp/1"}, private...),
		"/ip4/192.168.1.77/tcp/9/p2p/12D3KooWDT7a7rnaPXwjoqDyF2r8UEjMJ8VZevzTZJ7pzo4PP3Rr/p2p-circuit": public,
	} {
		if got := texts(tellable(parse(all), ma.StringCast(remote))); !slices.Equal(got, want) {
			t.Errorf("to %s:\n got %v\nwant %v", remote, got, want)
		}
	}
	many := make([]ma.Multiaddr, 100)
	for i := range many {
		many[i] = ma.StringCast("/ip4/198.51.100.1/tcp/1")
	}
	if n := len(tellable(many, many[0])); n != maxAddresses {
		t.Errorf("tells %d addresses, want %d", n, maxAddresses)
	}
}

func TestRankDials(t *testing.T) {
	t.Parallel()
	relay := "/ip4/198.51.100.9/tcp/1/p2p/12D3KooWDT7a7rnaPXwjoqDyF2r8UEjMJ8VZevzTZJ7pzo4PP3Rr/p2p-circuit"
	in := []string{relay, "/ip4/198.51.100.1/udp/1/quic-v1", "/ip4/198.51.100.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1"}
	var addrs []ma.Multiaddr
	for _, s := range in {
		addrs = append(addrs, ma.StringCast(s))
	}
	ranked := rankDials(addrs)
	var order []string
	for _, r := range ranked {
		order = append(order, r.Addr.String())
	}
	if order[0] != in[4] || order[1] != in[2] || order[2] != in[3] {
		t.Errorf("order %v", order)
	}
	if ranked[0].Delay != 0 {
		t.Errorf("the best waits %v", ranked[0].Delay)
	}
	// What is alone does not wait.
	for _, s := range in[1:] {
		if r := rankDials([]ma.Multiaddr{ma.StringCast(s)}); r[0].Delay != 0 {
			t.Errorf("%s alone waits %v", s, r[0].Delay)
		}
	}
	if n := len(rankDials(slices.Repeat(addrs, 100))); n != 2*maxAddresses {
		t.Errorf("dials %d addresses", n)
	}
}

func TestMergeAddresses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		list := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 1, 2, -1), 0, 30)
		fresh, old := list.Draw(rt, "fresh"), list.Draw(rt, "old")
		got := mergeAddresses(fresh, old)
		if len(got) > maxAddresses {
			rt.Fatalf("%d addresses", len(got))
		}
		sorted := slices.Sorted(slices.Values(got))
		if len(slices.Compact(sorted)) != len(got) {
			rt.Fatalf("%v names one twice", got)
		}
		if len(fresh) > 0 && got[0] != fresh[0] {
			rt.Fatalf("%v does not begin with the freshest of %v", got, fresh)
		}
		if again := mergeAddresses(got, got); !slices.Equal(again, got) {
			rt.Fatalf("merging again changes %v to %v", got, again)
		}
	})
}

func TestCoalesce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var pending, told []Event
		online := map[DeviceID]bool{}
		take := func() {
			if len(pending) > 0 {
				told, pending = append(told, pending[0]), pending[1:]
			}
		}
		for range rapid.IntRange(0, 50).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "take") {
				take()
				continue
			}
			id := DeviceID{byte(rapid.IntRange(0, 2).Draw(rt, "peer"))}
			online[id] = !online[id]
			pending = coalesce(pending, Event{id, online[id]})
			if len(pending) > 6 {
				rt.Fatalf("%d events wait for three peers", len(pending))
			}
		}
		for len(pending) > 0 {
			take()
		}
		seen := map[DeviceID]bool{}
		for _, e := range told {
			if seen[e.Peer] == e.Connected {
				rt.Fatalf("events of %x do not alternate: %v", e.Peer[0], told)
			}
			seen[e.Peer] = e.Connected
		}
		for id, want := range online {
			if seen[id] != want {
				rt.Fatalf("%x ends as %v, want %v", id[0], seen[id], want)
			}
		}
	})
}

func FuzzGreeting(f *testing.F) {
	f.Add([]byte{})
	f.Add(greeting{}.encode())
	f.Add(greeting{member: true, addrs: []ma.Multiaddr{ma.StringCast("/ip4/198.51.100.1/tcp/1"), ma.StringCast("/dns4/example.org/udp/1/quic-v1")}}.encode())
	f.Add([]byte{1, 1, 0, 3, 4, 1, 2})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 1, 1, 65})
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := decodeGreeting(raw)
		if err != nil {
			return
		}
		if len(g.addrs) > maxAddresses {
			t.Fatalf("%d addresses", len(g.addrs))
		}
		again, err := decodeGreeting(g.encode())
		if err != nil || again.member != g.member || !slices.EqualFunc(again.addrs, g.addrs, func(a, b ma.Multiaddr) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }) {
			t.Fatalf("%+v encodes to %+v, %v", g, again, err)
		}
	})
}

func TestGreetingBounds(t *testing.T) {
	t.Parallel()
	long := ma.StringCast("/dns4/" + strings.Repeat("a", 400) + "/tcp/1")
	short := ma.StringCast("/ip4/198.51.100.1/tcp/1")
	g := greeting{member: true, addrs: append([]ma.Multiaddr{long}, slices.Repeat([]ma.Multiaddr{short}, 100)...)}
	raw := g.encode()
	got, err := decodeGreeting(raw)
	if err != nil || !got.member || len(got.addrs) != maxAddresses || !got.addrs[0].Equal(short) {
		t.Errorf("decoded %d addresses, %v", len(got.addrs), err)
	}
	for _, bad := range [][]byte{nil, {1}, {1, 17}, {1, 1}, {1, 1, 0}, {1, 1, 0, 5, 1}, {1, 1, 1, 65}, make([]byte, maxGreetingBytes+1)} {
		if _, err := decodeGreeting(bad); err == nil {
			t.Errorf("% x decodes", bad[:min(len(bad), 8)])
		}
	}
	if _, err := readGreeting(strings.NewReader(strings.Repeat("\x00", 1<<20))); err == nil {
		t.Error("an endless greeting was read")
	}
	// A peer that is newer may use address kinds and flags that we do not know.
	if g, err := decodeGreeting([]byte{0xfd, 1, 0, 3, 0xff, 0xff, 0x7f, 9, 9}); err != nil || !g.member || len(g.addrs) != 0 {
		t.Errorf("a newer greeting: %+v, %v", g, err)
	}
}
