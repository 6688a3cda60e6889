// Plays what a listener receives, on the audio thread: a queue of stereo pieces at 8 kHz. It waits until `target` is
// there, so that jitter on the way is not heard, and skips to it when more than `most` has gathered, so that a stall is
// made up for and a drift of the two clocks too.

class ListenPlayer extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.at = 0; // samples of the first piece that were played
    this.held = 0; // samples waiting, per channel
    this.target = 0.12 * sampleRate;
    this.most = 0.4 * sampleRate;
    this.isPlaying = false;
    this.dry = 0;
    this.skipped = 0;
    this.port.onmessage = ({ data }) => this.take(new Int16Array(data));
  }

  take(piece) {
    this.queue.push(piece);
    this.held += piece.length / 2;
    if (this.held <= this.most) return;
    while (this.held > this.target && this.queue.length > 1) {
      const left = this.queue.shift().length / 2 - this.at;
      this.at = 0;
      this.held -= left;
      this.skipped += left;
    }
  }

  process(inputs, outputs) {
    const [left, right] = outputs[0];
    if (!this.isPlaying && this.held < this.target) return true;
    this.isPlaying = true;
    for (let place = 0; place < left.length; place += 1) {
      const piece = this.queue[0];
      if (!piece) {
        this.isPlaying = false;
        this.dry += 1;
        break;
      }
      left[place] = piece[2 * this.at] / 32768;
      right[place] = piece[2 * this.at + 1] / 32768;
      this.at += 1;
      this.held -= 1;
      if (2 * this.at >= piece.length) {
        this.queue.shift();
        this.at = 0;
      }
    }
    if (currentFrame % 4096 < left.length) {
      this.port.postMessage({ waitingMs: (1000 * this.held) / sampleRate, dry: this.dry, skippedMs: (1000 * this.skipped) / sampleRate });
    }
    return true;
  }
}

registerProcessor("listen-player", ListenPlayer);
