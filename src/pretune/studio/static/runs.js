export class Runs { constructor() {} begin() {} show() {} leave() {} }
