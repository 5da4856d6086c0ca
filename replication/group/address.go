package group

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mr-tron/base58"
)

// Addresses in codes are multiaddrs, written compactly as people may type them.
// One address is a run of parts and an end byte; a part is a byte that names it
// and its value. What does not come out again to the letter is carried as text.
const (
	partEnd     = iota
	partText    // length byte, the whole address as text
	partIP4     // 4 bytes
	partIP6     // 16 bytes
	partDNS     // length byte, name; likewise the next three
	partDNS4    //
	partDNS6    //
	partDNSAddr //
	partTCP     // port, 2 bytes
	partUDP     // port, 2 bytes
	partQUIC    // quic-v1
	partPeer    // p2p of an Ed25519 key, 32 bytes
	partInviter // p2p of who made the code
	partCircuit // p2p-circuit
	partWS      // ws
	partTLS     // tls
	maxAddress  = 255
)

var namedParts = map[string]byte{"ip4": partIP4, "ip6": partIP6, "dns": partDNS, "dns4": partDNS4, "dns6": partDNS6, "dnsaddr": partDNSAddr,
	"tcp": partTCP, "udp": partUDP, "quic-v1": partQUIC, "p2p": partPeer, "p2p-circuit": partCircuit, "ws": partWS, "tls": partTLS}

// partNames is the inverse of namedParts.
var partNames = func() map[byte]string {
	out := map[byte]string{partInviter: "p2p"}
	for name, part := range namedParts {
		out[part] = name
	}
	return out
}()

// peerPrefix is how the peer ID of an Ed25519 key starts: an identity multihash
// of a protobuf of the key's type and its 32 bytes.
var peerPrefix = []byte{0, 36, 8, 1, 18, 32}

// peerText gives a key's peer ID in its usual form.
func peerText(id DeviceID) string { return base58.Encode(slices.Concat(peerPrefix, id[:])) }

func appendAddress(b []byte, address string, inviter DeviceID) []byte {
	if compact, ok := compactAddress(address, inviter); ok {
		if r := (&reader{compact, true}); r.address(inviter) == address && r.ok && len(r.b) == 0 {
			return append(b, compact...)
		}
	}
	b = append(b, partText, byte(len(address)))
	return append(b, address...)
}

func compactAddress(address string, inviter DeviceID) ([]byte, bool) {
	words := strings.Split(address, "/")
	if len(words) < 2 || words[0] != "" {
		return nil, false
	}
	var b []byte
	for words = words[1:]; len(words) > 0; {
		part, ok := namedParts[words[0]]
		if !ok {
			return nil, false
		}
		words = words[1:]
		switch part {
		case partQUIC, partCircuit, partWS, partTLS:
			b = append(b, part)
			continue
		}
		if len(words) == 0 {
			return nil, false
		}
		if b, ok = appendPart(b, part, words[0], inviter); !ok {
			return nil, false
		}
		words = words[1:]
	}
	return append(b, partEnd), true
}

func appendPart(b []byte, part byte, value string, inviter DeviceID) ([]byte, bool) {
	switch part {
	case partIP4, partIP6:
		ip, err := netip.ParseAddr(value)
		if err != nil || ip.Is4() != (part == partIP4) {
			return nil, false
		}
		return append(append(b, part), ip.AsSlice()...), true
	case partTCP, partUDP:
		port, err := strconv.ParseUint(value, 10, 16)
		return binary.BigEndian.AppendUint16(append(b, part), uint16(port)), err == nil
	case partPeer:
		raw, err := base58.Decode(value)
		if err != nil || len(raw) != len(peerPrefix)+32 {
			return nil, false
		}
		if id := DeviceID(raw[len(peerPrefix):]); id != inviter {
			return append(append(b, partPeer), id[:]...), true
		}
		return append(b, partInviter), true
	default:
		return append(append(b, part, byte(len(value))), value...), len(value) <= maxAddress
	}
}

// A reader takes bytes from the front; ok is false once there were too few.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok = false
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// address reads what appendAddress wrote.
func (r *reader) address(inviter DeviceID) string {
	var out strings.Builder
	for r.ok {
		part := r.take(1)[0]
		switch part {
		case partEnd:
			r.ok = r.ok && out.Len() > 0 && out.Len() <= maxAddress
			return out.String()
		case partText:
			r.ok = r.ok && out.Len() == 0
			text := string(r.take(int(r.take(1)[0])))
			r.ok = r.ok && text != ""
			return text
		}
		name, ok := partNames[part]
		if !ok {
			r.ok = false
			return ""
		}
		out.WriteByte('/')
		out.WriteString(name)
		if value := r.partValue(part, inviter); value != "" {
			out.WriteByte('/')
			out.WriteString(value)
		}
	}
	return ""
}

func (r *reader) partValue(part byte, inviter DeviceID) string {
	switch part {
	case partIP4:
		return netip.AddrFrom4([4]byte(r.take(4))).String()
	case partIP6:
		return netip.AddrFrom16([16]byte(r.take(16))).String()
	case partTCP, partUDP:
		return strconv.Itoa(int(binary.BigEndian.Uint16(r.take(2))))
	case partPeer:
		return peerText(DeviceID(r.take(32)))
	case partInviter:
		return peerText(inviter)
	case partDNS, partDNS4, partDNS6, partDNSAddr:
		return string(r.take(int(r.take(1)[0])))
	}
	return ""
}
