// Package talk is the conversation of a Go client with fastapi_server.py, without its library. See program.py.
package talk

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Socket is what a library has to offer. Read and Write are called by one goroutine each.
type Socket interface {
	Read() (string, error)
	Write(text string, binary bool) error
	Close() error
}

var mutex sync.Mutex

// Report writes one line.
func Report(line map[string]any) {
	mutex.Lock()
	defer mutex.Unlock()
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

// Run dials the URL of the spec, and converses until told to stop.
func Run(dial func(url string) (Socket, error)) {
	var spec struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &spec); err != nil {
		panic(err)
	}
	socket, err := dial(spec.URL)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(stop)
	}()
	bye := make(chan struct{})
	go read(socket, bye)
	Report(map[string]any{"ready": true})
	if err := write(socket, stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-bye
	if err := socket.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	Report(map[string]any{"end": true})
}

func write(socket Socket, stop chan struct{}) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			Report(map[string]any{"called": n - 1})
			return socket.Write("end", false)
		case <-ticker.C:
			// Odd numbers as text, even ones as binary.
			if err := socket.Write(fmt.Sprintf("call %d", n), n%2 == 0); err != nil {
				return err
			}
		}
	}
}

func read(socket Socket, bye chan struct{}) {
	streams := map[string]string{"answer": "answers", "tick": "ticks"}
	for {
		text, err := socket.Read()
		if err != nil {
			Report(map[string]any{"lost": err.Error()})
			return
		}
		if rest, found := strings.CutPrefix(text, "bye "); found {
			var calls, ticks int
			_, _ = fmt.Sscanf(rest, "%d %d", &calls, &ticks)
			Report(map[string]any{"sent": "calls", "n": calls})
			Report(map[string]any{"sent": "ticks", "n": ticks})
			close(bye)
			return
		}
		var word string
		var n int
		_, _ = fmt.Sscanf(text, "%s %d", &word, &n)
		Report(map[string]any{"got": streams[word], "n": n})
	}
}
