// Browsers start no workers on pages that are opened from a folder. There, and only there, what would be a
// worker runs in a hidden frame, so that the guide can be searched without a server.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inner = frame.contentWindow
      // In a worker, messages go to its owner, and scripts are loaded one after the other.
      this.inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inner.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => this.load(each)), Promise.resolve())
      this.ready = this.load(new URL(url, document.baseURI))
    }

    load(url) {
      return new Promise((loaded, failed) => {
        const script = this.inner.document.createElement("script")
        script.src = url
        script.onload = loaded
        script.onerror = failed
        this.inner.document.body.append(script)
      })
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.inner.frameElement.remove()
    }
  }
}
